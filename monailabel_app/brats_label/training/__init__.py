"""Training from the clients: fine-tune the bundle on what people have labelled, and publish what is better."""

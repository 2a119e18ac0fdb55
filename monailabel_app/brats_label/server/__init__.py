"""What the app changes in MONAI Label's server: it stays up, stays quick, and says what is wrong."""

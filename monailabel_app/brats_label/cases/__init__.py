"""Cases: where they come from, and how their sequences come to lie on one grid."""

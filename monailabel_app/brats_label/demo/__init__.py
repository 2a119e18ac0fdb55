"""A DICOM server and studies of phantoms, for the demo and the tests."""

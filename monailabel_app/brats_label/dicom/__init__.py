"""Studies on a DICOMweb server: their series told apart, fetched, converted; segmentations written and read."""

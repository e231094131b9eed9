"""A PennyLane tape taken apart: structure, parameters, spectra, what is read off."""

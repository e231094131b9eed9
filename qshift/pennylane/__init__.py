"""qshift's rules as gradient transforms of PennyLane, for all its interfaces."""

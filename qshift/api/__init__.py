"""What a user calls: the qnode, its options and its derivatives."""

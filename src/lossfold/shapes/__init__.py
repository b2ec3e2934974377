"""What is made of shapes alone, masks and labels without scores: distances to where they end."""

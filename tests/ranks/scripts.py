"""What ranks do together beside the splits; each is called on all of them."""

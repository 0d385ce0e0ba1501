"""Episodes, bags and data sets: reading, writing, and saying plainly what is broken in them."""

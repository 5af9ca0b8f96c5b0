"""A residual network for pictures of clothes."""

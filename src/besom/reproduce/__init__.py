"""A recorded run again: trained here, or in its own code and packages; compared, judged, and what changed named."""

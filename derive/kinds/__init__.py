"""The methods that derive brings, one descriptor each (see `derive.contract`)."""

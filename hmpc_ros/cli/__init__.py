"""The command ``hmpc``: fly, train, plot and measure."""

"""Pictures, each a function ``draw_*``.

It writes a file, whose suffix chooses the format (png, pdf, svg), with a title and a subtitle above
its panels, and returns its path. Times are in seconds.
"""

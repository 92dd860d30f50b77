"""Everything else that is printed: status, stories, tables, curves.

compare  Runs side by side: the settings in which they differ, and what came of each
curve    Curves in a terminal, drawn with braille dots: two across and four down in each character
nodes    `nodes`: the nodes of a workspace as a table, and what is wrong with which
palette  The colours of all views: legible on a dark ground and on a light one (a test measures their contrast)
plot     `plot` without a file: loss curves in the terminal, in colours where it has some
seeds    Configurations with their error bars, as tables and sentences for people
status   `status` as plain lines: what needs attention first
story    `explain`: the story of a job in words
"""

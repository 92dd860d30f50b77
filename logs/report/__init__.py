"""What a sweep came to, as something to hand on: one HTML file without a network, or the table of a paper.

`content` is the page's values, `page` writes HTML, `curves` draws SVG, `look` is style and script, `paper` writes the
table as LaTeX or Markdown.
"""

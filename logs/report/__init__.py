"""What a sweep came to, as something to hand on: one HTML file without a network, or the table of a paper.

`content` is the page's values, `page` writes HTML, `curves` draws SVG, `look` is style and script, `paper` writes the
table as LaTeX or Markdown.

content  Everything that a report shows, as plain values
curves   Loss curves as SVG that needs nothing else: a line a run, and of several seeds their mean in its band
look     How a report looks and what moves in it: one style, one script, both inside the page
page     A report as one HTML file: nothing is fetched, everything that came from people or jobs is escaped
paper    The table of a paper: configurations with mean and interval, as LaTeX (booktabs) or Markdown
"""

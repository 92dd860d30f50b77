"""Text in, token arrays out.

`prepare.prepare` makes a data set from text files, `dataset.Dataset` opens it, `batches` feeds it to a trainer.
Nothing is imported here: the settings in `config` must be readable without NumPy.

batches           Batches for a trainer: streams with carried state, and padded rows of one example each
blocks            What every reader gives and reports: blocks of text, and a report for each file
build             Third pass: count, choose the vocabulary, and write the arrays of the splits
clean             Named cleaning steps: pure functions on the text of one row or block
collect_tokens    First pass: every source file becomes provisional token ids on disk
columnar          Parquet and Arrow files as a stream of blocks
config            One entry of `datasets:` in a sweep file, typed
count_vocabulary  From provisional ids to the vocabulary
dataset           A prepared data set on disk, opened
dialect           What a CSV file looks like, when nobody says: its delimiter and its quotation character
embeddings        Pre-trained word vectors, matched against a vocabulary
encodings         From bytes on disk to text: unpacking, encodings, what could not be decoded
errors            What is said when a person's file or setting is at fault
filter_rows       Second pass: which examples stay, and which split each belongs to
idle              Settings that do nothing where they stand
json_lines        JSON lines as a stream of blocks
lexicon           Provisional token ids, given while text is read, in bounded memory
looks             What a file that is read as plain text looks like: a table, a page of HTML, one text a line
manifest          `manifest.json`: what a prepared data set says about itself
mixing            Random orders and choices that stay the same for ever
pairs             How tokens stand that only their neighbours explain: single quotation marks, asterisks, dashes
pieces            Numbers for pieces of text, looked up by whole columns
prepare           From text files to a data set on disk: named by its content, made once, published whole
publish           Publishing a folder whole: built beside its place, synced, then renamed
readers           Any source file as a stream of blocks of text, in bounded memory
report            What preparing found and made: a record kept with the data, and its picture for a terminal
segment           Stories into paragraphs, sentences and examples
sentences         Paragraphs into sentences by the sentencex library
sources           Which files a data set is made of
spacing           Which blanks stand between tokens, in any script
summary           Putting the report together from what the passes leave
tables            CSV and TSV files as a stream of blocks
tokens            Words out of text, and readable text out of words
vocabulary        The token-to-number table of a data set, and the way back to readable text
"""

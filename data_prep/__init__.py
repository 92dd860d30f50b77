"""Text in, token arrays out.

`prepare.prepare` makes a data set from text files, `dataset.Dataset` opens it, `batches` feeds it to a trainer.
Nothing is imported here: the settings in `config` must be readable without NumPy.
"""

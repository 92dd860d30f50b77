"""Trained models, opened from a workspace's files.

copy_check    Does a model write, or recite? What it wrote, held against its training text
evaluation    Perplexity of runs, and of the ensembles of 1, 2, ... N of them
library       Trained models for notebooks: opened by name, to sample from and to evaluate
members       From names of runs and ensembles to members, their weights and the text they were trained on
model_folder  A trained model as a folder that opens elsewhere: weights, configuration, vocabulary, a card, a loader
writing       Texts from trained models, readable, each with its probability, and the file they are kept in
"""

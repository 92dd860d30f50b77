"""From where people are: files of other tools become sweep files. What cannot be carried over is named.

brought         What comes of a file: a sweep file's contents, and what is left out, as text
determined      An experiment's YAML of Determined: hyperparameters and searcher
hydra_line      A command line with Hydra's `--multirun`
slurm_script    A batch script of Slurm with an array
wandb_sweep     A sweep's YAML of Weights & Biases
which           What a file is, by its contents
"""

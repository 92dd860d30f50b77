"""terry.yaml, read and checked.

described    Every key of a file that is declared as types: what may stand there, its default, its comment
node_values  The values of a group's keys in `nodes:` of terry.yaml, each read and checked
nodes        `nodes:` and `head:` of terry.yaml, read and checked: where devices come from
policy       `policy:` of terry.yaml, read and checked
terry_yaml   terry.yaml, typed: what a person says of the whole workspace
typed        From the values of a YAML file to typed ones
watched      What follows changes of terry.yaml: the policy, and how long devices of others are kept
words        What a word of a YAML file means that is written without quotes
yaml_file    A YAML file as values that know their lines: the one reader of terry.yaml and of sweep files
"""

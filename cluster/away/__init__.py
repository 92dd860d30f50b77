"""Nodes that do not see the workspace: files there and back.

cache    What a node that does not see the workspace keeps of it: data sets, and the folders of attempts that are here
courier  The agent's side of a node that does not see the workspace
home     Runs of nodes that do not see the workspace: what they need from it, and what they bring to it
outbox   What of one attempt's local folder is not at home yet, and the sending of it
"""

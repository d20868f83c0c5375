"""The command line, with one file for each command. It only shows things to people; other layers decide.

Importing `main` imports click and nothing heavier; what a command needs is imported when that command is called.
"""

"""The command line: one file a command. It says things to people and decides nothing.

Importing `main` imports click and nothing heavier; what a command needs is imported when that command is called.
"""

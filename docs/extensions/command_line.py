"""The directive `command-line`: the help text of each command, as qshift itself prints it."""

import argparse
import os

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class CommandLine(SphinxDirective):
    """Shows the help text of every command of qshift's parser, each under its own heading."""

    def run(self) -> list[nodes.Node]:
        """Returns one section for each command."""
        from qshift.cli.main import parser

        os.environ["COLUMNS"] = "88"  # argparse would ask the terminal
        made = parser()
        (commands,) = [
            action for action in made._actions if isinstance(action, argparse._SubParsersAction)
        ]
        sections = []
        for name, command in commands.choices.items():
            section = nodes.section(ids=[f"qshift-{name}"], names=[f"qshift {name}"])
            section += nodes.title("", f"qshift {name}")
            section += nodes.literal_block("", command.format_help(), language="text")
            sections.append(section)
        return sections


def setup(app):
    """Registers the directive."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}

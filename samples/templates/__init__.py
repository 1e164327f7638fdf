"""The workflows of the template gallery: how they are laid out, and the notes in them.

``layouts`` describes them, ``notes/`` holds their texts in English and Chinese, ``build`` draws
them in a real editor and saves them. ``python -m samples.templates.build`` writes ``workflows/``
again, which is how they follow a change of a node.
"""

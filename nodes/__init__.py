"""The ComfyUI nodes: thin wrappers that convert in, make one call of the core, convert out.

This is the only folder that imports ComfyUI. Shared by the nodes:

- ``schemas``: the menu's folders, our sockets and recurring inputs; ``weights``: inputs that
  choose a file; ``guidance``: how pseudo targets are sampled; ``recipe``: how a restorer is tuned;
- ``chain_inputs``: inputs of the nodes that do the whole chain; ``chain``: what these mean;
- ``convert``: tensor layouts; ``memory``: networks, progress and interrupt; ``folders`` and
  ``sets``: where files lie; ``sheet``: sheets that nodes show and let be clicked.

The other modules hold the nodes; ``extension`` lists them.
"""

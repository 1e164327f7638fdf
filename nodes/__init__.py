"""The ComfyUI nodes: thin wrappers that convert in, make one call of the core, convert out.

This is the only folder that imports ComfyUI. ``schemas`` holds what every node shares,
``convert`` the tensor layouts, ``memory`` the networks, progress and interrupt; ``loaders``,
``faces``, ``restore`` and ``example`` hold the nodes and ``extension`` lists them.
"""

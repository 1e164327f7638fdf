"""The ComfyUI nodes: thin wrappers that convert in, make one call of the core, convert out.

This is the only folder that imports ComfyUI. ``schemas`` holds what every node shares,
``convert`` the tensor layouts, ``memory`` the networks, progress and interrupt, ``folders`` where
files lie, ``looking`` the sheets that nodes show and let be clicked. ``loaders``, ``faces``,
``restore``, ``example``, ``sampling``, ``pairs``, ``review``, ``consistency``, ``finetune``,
``degrade`` and ``measure`` hold the nodes; ``extension`` lists them.
"""

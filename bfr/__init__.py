"""Face restoration for damaged photographs: the headless core of Face Restoration Tuner.

The folders follow the data, and each imports only from itself and from those before it
(``tests/test_layers.py`` checks this)::

    choices, errors, records -> image, runtime -> files -> damage -> faces -> restore
    -> quality -> prior -> pairs -> finetune -> cli

Nothing here knows ComfyUI, asks for a device, downloads, prints or works at import.
Images are BCHW float32 RGB in [0, 1]; points are (x, y) pixels with pixel centres on
whole numbers; sizes are (height, width).
"""

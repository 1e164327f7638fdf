"""Face restoration for damaged photographs: the headless core of Face Restoration Tuner.

The modules read in the order data flows, and each imports only from those before it
(``tests/test_layers.py`` holds the list and checks it)::

    records, errors, images, geometry, weights -> crops
    -> retinaface -> detect -> select -> align
    -> lowpass, colour -> memory -> restorer
    -> unet, diffusion -> layouts, diffusers_prior -> prior -> consistency
    -> solvers, noise -> sample
    -> parsing -> paste -> camera, prints -> degrade
    -> evaluate, niqe, perceptual -> sheets, plots -> scores -> measure -> batch
    -> share, progress -> pairs -> ledger -> collect, guesses -> targets -> review
    -> recipes, discriminator -> objectives, checkpointing
    -> trainset -> keep -> runs -> validate -> learner -> finetune
    -> pipeline -> track, steady -> video -> frames
    -> models, options -> tuning, measuring, training -> cli

Nothing here knows ComfyUI, asks for a device, downloads, prints or works at import.
Images are BCHW float32 RGB in [0, 1]; points are (x, y) pixels with pixel centres on
whole numbers; sizes are (height, width).
"""

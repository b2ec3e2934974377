"""Losses within other people's training loops; each module imports its framework, this package none.

``lossfold.adapters.hugging_face`` for transformers' Trainer, ``lossfold.adapters.lightning`` for Lightning,
``lossfold.adapters.mmengine`` for MMEngine's registries and Runner. A loop of one's own needs ``criterion.advance()`` at most.
"""

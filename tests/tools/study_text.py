"""A study file to change for tests."""

STUDY = """
name: small
question: Which is better?
config: configs/toy_sora_frcnn.py
reference: SoRA
seeds: [0, 1]
settings:
  train.max_iter: 4
learning_rate:
  sets: [optimizer.params.rates.adapter.lr]
  grid: [1e-4, 3e-4, 1e-3]
  most: 5
  seeds: [9]
  held_out: 0.3
  metric: ap50
  checkpoint: last
methods:
  SoRA:
    adaptation: configs/common/adaptation/sora.py
    settings: {adaptation.rank: 2}
  frozen:
    adaptation: configs/common/adaptation/frozen.py
    sets: [optimizer.params.rates.head.lr]
"""

from .resize_256 import dataloader

# For the drawn scenes: the longer side becomes 192 pixels.
dataloader.train.augmentations[0].update(short_edge_length=192, max_size=192)
dataloader.test.augmentations[0].update(short_edge_length=192, max_size=192)

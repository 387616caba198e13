"""Samples a second of torch.utils.data.DataLoader over the same work as loader_bench.cc: MNIST in a TensorDataset, shuffled.

usage: dataloader_peer.py [seconds a measurement] [data root]

samples_per_cpu_s is per second of processor time of this process; with worker processes it would be half the truth and is left out.
To be fair to the peer the images are normalised beforehand, so that it only has to gather; loader_bench does both.
"""
import gzip
import os
import sys
import time

import torch
from torch.utils.data import DataLoader, TensorDataset


def mnist(root):
    folder = os.path.join(root, "mnist")

    def read(name):
        for path, open_file in ((f"{folder}/{name}.gz", gzip.open), (f"{folder}/{name}", open)):
            if os.path.exists(path):
                with open_file(path, "rb") as file:
                    return bytearray(file.read())
        return None

    images, labels = read("train-images-idx3-ubyte"), read("train-labels-idx1-ubyte")
    if images is None or labels is None:
        return None
    pixels = torch.frombuffer(images, dtype=torch.uint8, offset=16).reshape(-1, 1, 28, 28)
    return pixels, torch.frombuffer(labels, dtype=torch.uint8, offset=8).long()


def samples_per_second(dataset, batch, workers, seconds):
    loader = DataLoader(dataset, batch_size=batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    touched = 0.0

    def take_for(wanted):
        nonlocal touched
        begin, begin_cpu, samples = time.perf_counter(), time.process_time(), 0
        while True:
            for inputs, targets in loader:
                touched += inputs[0, 0, 0, 0].item()
                samples += targets.numel()
                passed = time.perf_counter() - begin
                if passed >= wanted:
                    return samples / passed, samples / (time.process_time() - begin_cpu)

    take_for(seconds / 4)
    return take_for(seconds)


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    root = sys.argv[2] if len(sys.argv) > 2 else os.environ.get("DTRAIN_DATA") or "data"
    torch.set_num_threads(1)
    data = mnist(root)
    name = "mnist" if data else "stand-in"
    pixels, labels = data or (torch.randint(0, 256, (60000, 1, 28, 28), dtype=torch.uint8), torch.arange(60000) % 10)
    dataset = TensorDataset((pixels.float() / 255 - 0.1307) / 0.3081, labels)
    for workers in (0, 2):
        for batch in (64, 512):
            rate, cpu_rate = samples_per_second(dataset, batch, workers, seconds)
            per_cpu = f" samples_per_cpu_s={cpu_rate:.0f}" if workers == 0 else ""
            print(f"torch workers={workers} batch={batch} samples_per_s={rate:.0f}{per_cpu} data={name}", flush=True)


main()

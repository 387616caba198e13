"""PyTorch on the same net and data: eager in one process, or DistributedDataParallel over Gloo under torchrun.
eager_peer.py BATCH_PER_RANK THREADS STEPS prints samples per second (all ranks) of the steps after the first 20."""
import gzip, os, sys, time
import numpy as np
import torch

batch, threads, steps = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
root = os.path.join(os.environ.get("DTRAIN_DATA", "data"), "fashion-mnist")
read = lambda name, skip: np.frombuffer(gzip.open(os.path.join(root, name)).read(), np.uint8, offset=skip)
x = torch.from_numpy(read("train-images-idx3-ubyte.gz", 16).reshape(-1, 784).astype(np.float32)).div_(255).sub_(0.5).div_(0.5)
y = torch.from_numpy(read("train-labels-idx1-ubyte.gz", 8).astype(np.int64))
torch.manual_seed(1)
nn = torch.nn
net = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10), nn.ReLU())
if world > 1:
    torch.distributed.init_process_group("gloo")
    net = nn.parallel.DistributedDataParallel(net, gradient_as_bucket_view=True, static_graph=True)
optimizer = torch.optim.SGD(net.parameters(), lr=0.001, fused=True)
order = torch.randperm(len(x))
for step in range(steps):
    if step == 20:
        begin = time.perf_counter()
    first = (step * world + rank) * batch % (len(x) - batch)
    index = order[first:first + batch]
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(net(x[index]), y[index])
    loss.backward()
    loss.item()
    optimizer.step()
if rank == 0:
    print(round((steps - 20) * batch * world / (time.perf_counter() - begin)))
if world > 1:
    torch.distributed.destroy_process_group()

"""Goal: two ranks compute what PyTorch's DistributedDataParallel over Gloo computes. Method: the same start weights and samples on
Fashion-MNIST; the reduced gradient of the first step bit for bit (a momentum buffer is the gradient after one step), the
parameters after 25 steps of SGD within 1e-6.
python_ddp_test.py DTRAIN_PROGRAM CONFIG_FOLDER; exits with 77 (skipped) where the data set is absent."""
import gzip, os, subprocess, sys, tempfile
import numpy as np
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file

BATCH, STEPS, LR = 32, 25, 0.05


def read(name, skip):
    root = os.path.join(os.environ.get("DTRAIN_DATA", "data"), "fashion-mnist")
    return np.frombuffer(gzip.open(os.path.join(root, name)).read(), np.uint8, offset=skip)


def ddp(rank, folder):
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", GLOO_SOCKET_IFNAME="lo")
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    x = (torch.from_numpy(read("train-images-idx3-ubyte.gz", 16).reshape(-1, 784).astype(np.float32)) / 255 - 0.5) / 0.5
    y = torch.from_numpy(read("train-labels-idx1-ubyte.gz", 8).astype(np.int64))
    nn = torch.nn
    net = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10), nn.ReLU())
    net.load_state_dict(load_file(f"{folder}/start.safetensors"))
    model = nn.parallel.DistributedDataParallel(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)
    for step in range(STEPS):
        part = slice((2 * step + rank) * BATCH, (2 * step + rank + 1) * BATCH)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[part]), y[part]).backward()
        if step == 0 and rank == 0:
            save_file({name: tensor.grad.clone() for name, tensor in net.named_parameters()}, f"{folder}/gradient.safetensors")
        optimizer.step()
    if rank == 0:
        save_file(net.state_dict(), f"{folder}/end.safetensors")
    torch.distributed.destroy_process_group()


def main():
    program, configs = sys.argv[1], sys.argv[2]
    try:
        read("train-labels-idx1-ubyte.gz", 8)
    except OSError as error:
        print(f"no data: {error} (set DTRAIN_DATA)")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        torch.manual_seed(5)
        nn = torch.nn
        start = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10), nn.ReLU())
        save_file(start.state_dict(), "start.safetensors")
        mp.spawn(ddp, (folder,), nprocs=2)
        gradient, end = load_file("gradient.safetensors"), load_file("end.safetensors")
        ours = {f"{2 * i}.{part}": f"fc{i + 1}.{part}" for i in range(3) for part in ("weight", "bias")}

        def train(name, *words):
            names = ",".join(f"{theirs}={own}" for theirs, own in ours.items())
            done = subprocess.run([program, "train", os.path.join(configs, "fashion_parity.yaml"), "-n", "2", f"run.name={name}",
                                   f"data.batch.global={2 * BATCH}", "data.sampler=sequential", f"optim.lr={LR}", "eval.every=never",
                                   "--init-from", "start.safetensors", "--init-names", names, *words], capture_output=True, text=True)
            assert done.returncode == 0, (done.stdout, done.stderr)

        for backend in ("shared_memory", "tcp"):
            train(f"one-{backend}", "train.duration=1st", "optim.momentum=0.9", f"strategy.backend={backend}")
            slots = load_file(f"runs/one-{backend}/checkpoints/step-000001/optimizer.safetensors")
            for theirs, own in ours.items():
                found = slots[f"momentum_buffer/{own}"]
                assert torch.equal(found, gradient[theirs]), (backend, own, (found - gradient[theirs]).abs().max().item())
            train(f"all-{backend}", f"train.duration={STEPS}st", f"strategy.backend={backend}")
            model = load_file(f"runs/all-{backend}/checkpoints/step-{STEPS:06d}/model.safetensors")
            difference = max((model[own] - end[theirs]).abs().max().item() for theirs, own in ours.items())
            print(f"{backend}: the gradient is DDP's bit for bit; parameters after {STEPS} steps differ by at most {difference}")
            assert difference < 1e-6


if __name__ == "__main__":
    main()

"""Goal: Python reads our files and we read Python's. Method: the same logits from the same tensors on Fashion-MNIST, both ways.
python_logits_test.py DTRAIN_PROGRAM CONFIG_FOLDER; exits with 77 (skipped) where the data set is absent."""
import gzip, os, subprocess, sys, tempfile
import numpy as np
import torch
from safetensors.torch import load_file, save_file

program, configs = sys.argv[1], sys.argv[2]
root = os.path.join(os.environ.get("DTRAIN_DATA", "data"), "fashion-mnist")
if not os.path.isdir(root):
    print(f"no data: {root} is not there (set DTRAIN_DATA)")
    sys.exit(77)
raw = gzip.open(os.path.join(root, "t10k-images-idx3-ubyte.gz")).read()
x = (torch.from_numpy(np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 784).astype(np.float32)) / 255 - 0.5) / 0.5


def logits(tensors):
    layer = lambda v, n: torch.nn.functional.linear(v, tensors[n + ".weight"], tensors[n + ".bias"])
    return torch.relu(layer(torch.relu(layer(torch.relu(layer(x, "fc1")), "fc2")), "fc3"))


def dtrain(*words):
    done = subprocess.run([program, *words], capture_output=True, text=True)
    assert done.returncode == 0, (words, done.stdout, done.stderr)


def predicted(run):
    dtrain("predict", run, "--logits", "--output", run + ".csv")
    rows = np.loadtxt(run + ".csv", delimiter=",", skiprows=1)
    assert (rows[:, 0] == np.arange(len(x))).all()
    return torch.from_numpy(rows[:, 1:-1].astype(np.float32))


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    config = os.path.join(configs, "fashion_parity.yaml")
    dtrain("train", config, "run.name=ours", "train.duration=50st", "optim.lr=0.05", "-n", "2", "eval.every=never")
    dtrain("export", "ours", "--output", "ours.safetensors")
    difference = (predicted("ours") - logits(load_file("ours.safetensors"))).abs().max().item()
    print("ours in Python: largest difference of a logit", difference)
    assert difference < 1e-4

    torch.manual_seed(5)
    net = torch.nn.Sequential(torch.nn.Linear(784, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10), torch.nn.ReLU())
    save_file(net.state_dict(), "python.safetensors")
    names = ",".join(f"{2 * i}.{part}=fc{i + 1}.{part}" for i in range(3) for part in ("weight", "bias"))
    dtrain("train", config, "run.name=theirs", "train.duration=1st", "optim.lr=1e-30", "eval.every=never", "--init-from", "python.safetensors", "--init-names", names)
    difference = (predicted("theirs") - net(x).detach()).abs().max().item()
    print("Python's in ours: largest difference of a logit", difference)
    assert difference < 1e-4

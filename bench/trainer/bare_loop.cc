// A loop as one writes it by hand with LibTorch and nothing else: Fashion-MNIST in one tensor, a batch by index_select, the
// net 784-512-512-10, torch::optim::SGD. `bare_loop BATCH THREADS STEPS PIECES` prints samples per second of the steps
// after the first 20; with PIECES above 1 the batch is cut and gradients accumulate.
#include <torch/nn/functional/activation.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>
#include <torch/utils.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "datasets/mnist.h"

int main(int argc, char** argv) {
  const int64_t batch = argc > 1 ? std::atol(argv[1]) : 64, steps = argc > 3 ? std::atol(argv[3]) : 1500,
                pieces = argc > 4 ? std::atol(argv[4]) : 1;
  torch::set_num_threads(argc > 2 ? std::atoi(argv[2]) : 1);
  const char* root = std::getenv("DTRAIN_DATA");
  const auto parts = dtrain::OpenMnist("fashion-mnist", root != nullptr ? root : "data");
  if (!parts.ok()) {
    std::fprintf(stderr, "%s\n", dtrain::Message(parts.status()).c_str());
    return 4;
  }
  std::vector<int64_t> rows(parts->train->size());
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int64_t>(i);
  dtrain::Batch all;
  if (!parts->train->Gather(rows, nullptr, &all).ok()) return 4;
  const torch::Tensor x = torch::from_blob(all.input_data(), {all.size(), 784}).clone().sub_(0.5).div_(0.5);
  const torch::Tensor y = torch::from_blob(all.target_data(), {all.size()}, torch::kInt64).clone();
  torch::manual_seed(1);
  torch::nn::Sequential net(torch::nn::Linear(784, 512), torch::nn::ReLU(), torch::nn::Linear(512, 512), torch::nn::ReLU(),
                            torch::nn::Linear(512, 10), torch::nn::ReLU());
  torch::optim::SGD optimizer(net->parameters(), torch::optim::SGDOptions(0.001));
  torch::Tensor order = torch::randperm(all.size());
  auto begin = std::chrono::steady_clock::now();
  double loss_sum = 0;
  for (int64_t step = 0; step < steps; ++step) {
    if (step == 20) begin = std::chrono::steady_clock::now();
    const int64_t first = step * batch % (all.size() - batch);
    optimizer.zero_grad();
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const torch::Tensor index = order.slice(0, first + piece * batch / pieces, first + (piece + 1) * batch / pieces);
      const torch::Tensor loss =
          torch::nn::functional::cross_entropy(net->forward(x.index_select(0, index)), y.index_select(0, index)) / pieces;
      loss.backward();
      loss_sum += loss.item<double>();
    }
    optimizer.step();
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("%.0f\n", static_cast<double>((steps - 20) * batch) / seconds);
  return loss_sum > 0 ? 0 : 1;
}

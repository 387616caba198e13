// One update of 10 million parameters in 100 tensors: our fused pass over the flat buffer against torch::optim tensor by
// tensor, in turns, on one thread. torch's are tensors as it allocates them in a user's model, which the target is for;
// "on flat" is torch on views of our flat buffers, which shows what the fused pass gains without their huge pages.
// Medians of the thread's own time, so that other work on the machine counts less.
#include <sys/mman.h>
#include <torch/optim/adagrad.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>
#include <torch/utils.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <span>
#include <vector>

#include "base/rng.h"
#include "optim/optimizer.h"

namespace dtrain {
namespace {

constexpr int kTensors = 100, kRounds = 15;
constexpr int64_t kTensorElements = 100'000, kElements = kTensors * kTensorElements;
constexpr double kRate = 1e-4;

// Flat memory as the trainer has it: from the kernel, on huge pages where there are any.
std::span<float> FlatBuffer(float value) {
  void* memory = mmap(nullptr, kElements * sizeof(float), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("allocate a flat buffer of 40 MB");
    std::exit(1);
  }
  madvise(memory, kElements * sizeof(float), MADV_HUGEPAGE);
  const std::span<float> buffer(static_cast<float*>(memory), kElements);
  std::ranges::fill(buffer, value);
  return buffer;
}

void Free(std::span<float> buffer) { munmap(buffer.data(), buffer.size_bytes()); }

double ThreadSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

template <typename Work>
double Seconds(const Work& work) {
  const double start = ThreadSeconds();
  work();
  return ThreadSeconds() - start;
}

double Median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + values.size() / 2);
  return values[values.size() / 2];
}

using Tensors = std::vector<torch::Tensor>;

struct Row {
  const char* name;
  double target;  // how many times torch's speed
  OptimizerOptions options;
  double weight_decay;
  std::unique_ptr<torch::optim::Optimizer> (*make_torch)(const Tensors&);
};

template <typename TorchOptimizer, typename Options>
std::unique_ptr<torch::optim::Optimizer> Torch(const Tensors& tensors, const Options& options) {
  return std::make_unique<TorchOptimizer>(tensors, options);
}

const std::vector<Row>& Rows() {
  using enum OptimizerType;
  static const std::vector<Row> rows = {
      {"sgd", 1.1, {}, 0, [](const Tensors& t) { return Torch<torch::optim::SGD>(t, torch::optim::SGDOptions(kRate)); }},
      {"sgd + decay",
       1.5,
       {},
       1e-4,
       [](const Tensors& t) { return Torch<torch::optim::SGD>(t, torch::optim::SGDOptions(kRate).weight_decay(1e-4)); }},
      {"sgd + momentum",
       2,
       {.momentum = 0.9},
       0,
       [](const Tensors& t) { return Torch<torch::optim::SGD>(t, torch::optim::SGDOptions(kRate).momentum(0.9)); }},
      {"adagrad",
       2,
       {.type = kAdagrad, .eps = 1e-10},
       0,
       [](const Tensors& t) { return Torch<torch::optim::Adagrad>(t, torch::optim::AdagradOptions(kRate)); }},
      {"rmsprop",
       2,
       {.type = kRmsprop},
       0,
       [](const Tensors& t) { return Torch<torch::optim::RMSprop>(t, torch::optim::RMSpropOptions(kRate)); }},
      {"adam", 2, {.type = kAdam}, 0, [](const Tensors& t) { return Torch<torch::optim::Adam>(t, torch::optim::AdamOptions(kRate)); }},
      {"adamw",
       2,
       {.type = kAdamW},
       0.01,
       [](const Tensors& t) { return Torch<torch::optim::AdamW>(t, torch::optim::AdamWOptions(kRate).weight_decay(0.01)); }},
  };
  return rows;
}

// Views of the flat buffers, or tensors of torch's own with the same values.
Tensors MakeTensors(std::span<float> parameters, std::span<float> gradients, bool own) {
  Tensors tensors;
  for (int64_t begin = 0; begin < kElements; begin += kTensorElements) {
    const auto parameter = torch::from_blob(parameters.data() + begin, {kTensorElements});
    const auto gradient = torch::from_blob(gradients.data() + begin, {kTensorElements});
    tensors.push_back((own ? parameter.clone() : parameter).set_requires_grad(true));
    tensors.back().mutable_grad() = own ? gradient.clone() : gradient;
  }
  return tensors;
}

// Whether the row's target was met.
bool Run(const Row& row, std::span<float> parameters, std::span<float> gradients) {
  const auto on_own = row.make_torch(MakeTensors(parameters, gradients, true));
  const auto on_flat = row.make_torch(MakeTensors(parameters, gradients, false));
  const auto ours = MakeOptimizer(row.options).value();
  std::vector<std::span<float>> slots;
  for (size_t i = 0; i < ours->slot_names().size(); ++i) slots.push_back(FlatBuffer(static_cast<float>(ours->slot_initial(i))));

  std::vector<double> own_seconds, flat_seconds, our_seconds;
  for (int round = 0; round <= kRounds; ++round) {
    const double own_took = Seconds([&] { on_own->step(); });
    const double flat_took = Seconds([&] { on_flat->step(); });
    const double ours_took = Seconds([&] {
      ours->Apply({.update = round + 1, .learning_rate = kRate}, {.weight_decay = row.weight_decay}, parameters,
                  std::span<const float>(gradients), slots);
    });
    if (round == 0) continue;  // torch makes its state in the first
    own_seconds.push_back(own_took);
    flat_seconds.push_back(flat_took);
    our_seconds.push_back(ours_took);
  }
  for (const auto slot : slots) Free(slot);
  const double own = Median(own_seconds), flat = Median(flat_seconds), mine = Median(our_seconds);
  const bool met = own / mine >= row.target;
  std::printf("%-15s %9.2f %9.2f %9.2f %7.2f %7.1f %7.2f  %s\n", row.name, own * 1e3, flat * 1e3, mine * 1e3, own / mine, row.target,
              flat / mine, met ? "met" : "MISSED");
  return met;
}

int Main() {
  torch::set_num_threads(1);
  const auto parameters = FlatBuffer(0), gradients = FlatBuffer(0);
  Rng rng(1, RngPurpose::kSynthetic);
  for (float& parameter : parameters) parameter = rng.Uniform();
  for (float& gradient : gradients) gradient = rng.Uniform() - 0.5F;
  std::printf("%-15s %9s %9s %9s %7s %7s %7s\n", "optimizer", "torch ms", "on flat", "ours ms", "ratio", "target", "on flat");
  bool met = true;
  for (const Row& row : Rows()) met = Run(row, parameters, gradients) && met;
  return met ? 0 : 1;
}

}  // namespace
}  // namespace dtrain

int main() { return dtrain::Main(); }

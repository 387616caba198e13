// Samples a second that the loader hands to a training loop: MNIST, shuffled, normalised, one prefetch thread, or a synthetic
// stand-in of the same size where MNIST is absent. The consumer touches one value a batch, as a model would begin to.
//
//   loader_bench [seconds a measurement, default 2] [data root, default $DTRAIN_DATA, else data]
//
// One line a measurement: "dtrain threads=1 batch=64 samples_per_s=... samples_per_cpu_s=... data=mnist". The second figure is
// per second of processor time of all threads, which other programs on the machine disturb less. run.sh sets PyTorch's
// DataLoader beside it.
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>

#include "base/check.h"
#include "datasets/images.h"
#include "datasets/loader.h"
#include "datasets/mnist.h"
#include "datasets/open_dataset.h"
#include "datasets/transform.h"

namespace dtrain {
namespace {

constexpr int64_t kStandInSamples = 60'000, kPixels = 28 * 28;

// As many bytes as MNIST has, of no meaning.
std::shared_ptr<const Dataset> StandIn() {
  std::vector<uint8_t> pixels(kStandInSamples * kPixels), labels(kStandInSamples);
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<uint8_t>(i * 2654435761u >> 24);
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<uint8_t>(i % 10);
  DatasetSchema schema = {.name = "stand-in", .input_shape = {1, 28, 28}, .classes = 10};
  return std::make_shared<const ImageDataset>(std::move(schema), std::move(pixels), std::move(labels), "stand-in");
}

double ProcessorSeconds() {
  rusage usage = {};
  DTRAIN_CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
  const auto seconds = [](const timeval& time) { return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

struct Rate {
  double per_s, per_cpu_s;
};

StatusOr<Rate> Measured(const std::shared_ptr<const Dataset>& dataset, int64_t batch_size, int threads, double seconds) {
  ASSIGN_OR_RETURN(const Sampler sampler, Sampler::Make({.seed = 1, .dataset_size = dataset->size(), .global_batch = batch_size}));
  ASSIGN_OR_RETURN(const auto loader, Loader::Make(dataset, sampler, {.threads = threads}));
  constexpr Step kNoEnd = Step{1} << 40;
  loader->Start(0, 0, 1, kNoEnd);
  double touched = 0;
  const auto take_for = [&](double wanted_s) -> StatusOr<Rate> {
    const TimePoint begin = SystemClock().Now();
    const double begin_cpu_s = ProcessorSeconds();
    int64_t samples = 0;
    while (true) {
      ASSIGN_OR_RETURN(const Batch* batch, loader->Next(Deadline::In(std::chrono::seconds(30))));
      touched += static_cast<double>(batch->inputs<float>()[0]);
      samples += batch->size();
      const double passed_s = Seconds(SystemClock().Now() - begin);
      if (passed_s < wanted_s) continue;
      const double cpu_s = ProcessorSeconds() - begin_cpu_s;
      return Rate{static_cast<double>(samples) / passed_s, static_cast<double>(samples) / cpu_s};
    }
  };
  RETURN_IF_ERROR(take_for(seconds / 4).status());  // warm-up
  ASSIGN_OR_RETURN(const Rate rate, take_for(seconds));
  DTRAIN_CHECK(touched != 0);
  return rate;
}

Status Main(double seconds, const std::string& root) {
  std::shared_ptr<const Dataset> dataset;
  if (auto parts = OpenMnist("mnist", root); parts.ok()) {
    dataset = parts->train;
  } else {
    std::cerr << Message(parts.status()) << "\n(measuring with a stand-in of the same size)\n";
    dataset = StandIn();
  }
  const Value normalize = Value::List{Value::Map{{"type", "normalize"}, {"mean", 0.1307}, {"std", 0.3081}}};
  ASSIGN_OR_RETURN(const TransformList transforms, MakeTransforms(normalize, dataset->schema()));
  dataset = WithTransforms(dataset, transforms);
  for (const int threads : {0, 1}) {
    for (const int64_t batch_size : {64, 512}) {
      ASSIGN_OR_RETURN(const Rate rate, Measured(dataset, batch_size, threads, seconds));
      std::printf("dtrain threads=%d batch=%d samples_per_s=%.0f samples_per_cpu_s=%.0f data=%s\n", threads, static_cast<int>(batch_size),
                  rate.per_s, rate.per_cpu_s, dataset->schema().name.c_str());
      std::fflush(stdout);
    }
  }
  return OkStatus();
}

}  // namespace
}  // namespace dtrain

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 2;
  const auto root = argc > 2 ? dtrain::StatusOr<std::string>(argv[2]) : dtrain::DataRoot(dtrain::Value());
  if (!root.ok() || !(seconds > 0)) {
    std::cerr << "usage: loader_bench [seconds] [data root]\n";
    return static_cast<int>(dtrain::ExitCode::kUsage);
  }
  const dtrain::Status status = dtrain::Main(seconds, *root);
  if (!status.ok()) std::cerr << dtrain::Message(status) << "\n";
  return static_cast<int>(status.ok() ? dtrain::ExitCode::kDone : dtrain::ExitCode::kSetUp);
}

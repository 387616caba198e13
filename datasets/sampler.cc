#include "datasets/sampler.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "base/rng.h"

namespace dtrain {
namespace {

int64_t StepsPerEpoch(const SamplerOptions& options) {
  const int64_t whole = options.dataset_size / options.global_batch;
  const bool uneven = options.dataset_size % options.global_batch != 0;
  return whole + (uneven && options.remainder != Remainder::kDrop ? 1 : 0);
}

}  // namespace

StatusOr<SamplerKind> ParseSamplerKind(std::string_view name) {
  if (name == "shuffled") return SamplerKind::kShuffled;
  if (name == "sequential") return SamplerKind::kSequential;
  if (name == "independent") return SamplerKind::kIndependent;
  return InvalidArgument("data.sampler: unknown word \"", name, "\" (expected shuffled, sequential or independent)");
}

StatusOr<Remainder> ParseRemainder(std::string_view name) {
  if (name == "pad") return Remainder::kPad;
  if (name == "drop") return Remainder::kDrop;
  if (name == "partial") return Remainder::kPartial;
  return InvalidArgument("data.remainder: unknown word \"", name, "\" (expected pad, drop or partial)");
}

StatusOr<Sampler> Sampler::Make(const SamplerOptions& options) {
  if (options.dataset_size < 1) return InvalidArgument("sample a data set of ", options.dataset_size, " samples: expected at least 1");
  if (options.global_batch < 1) return InvalidArgument("data.batch.global: found ", options.global_batch, ", expected at least 1");
  if (options.leaves < 1) return InvalidArgument("data.batch.micro_batches: found ", options.leaves, ", expected at least 1");
  if (options.leaves > options.global_batch) {
    return WithHint(InvalidArgument("data.batch.micro_batches: found ", options.leaves, ", more than the ", options.global_batch,
                                    " samples of a batch (data.batch.global)"),
                    "every micro-batch needs a sample: lower micro_batches or raise global");
  }
  if (options.remainder != Remainder::kPartial && options.global_batch > options.dataset_size) {
    return InvalidArgument("data.batch.global: found ", WithCommas(options.global_batch), ", expected at most the ",
                           WithCommas(options.dataset_size), " samples of the data set");
  }
  if (options.kind == SamplerKind::kIndependent && options.remainder == Remainder::kPartial) {
    return InvalidArgument("data.sampler: independent, which has no last batch, with data.remainder: partial");
  }
  return Sampler(options);
}

Sampler::Sampler(const SamplerOptions& options)
    : options_(options),
      steps_per_epoch_(StepsPerEpoch(options)),
      orders_(options.kind == SamplerKind::kIndependent ? static_cast<size_t>(options.leaves) : 1) {}

Cursor Sampler::CursorAt(Step step) const {
  DTRAIN_CHECK(step >= 0);
  Cursor cursor = {.epoch = step / steps_per_epoch_, .step_in_epoch = step % steps_per_epoch_};
  const bool short_last = options_.remainder == Remainder::kPartial;
  const int64_t epoch_samples = short_last ? options_.dataset_size : steps_per_epoch_ * options_.global_batch;
  cursor.samples = cursor.epoch * epoch_samples + cursor.step_in_epoch * options_.global_batch;
  return cursor;
}

StatusOr<Step> Sampler::Resume(const Cursor& saved) const {
  const bool in_epoch = saved.epoch >= 0 && saved.step_in_epoch >= 0 && saved.step_in_epoch < steps_per_epoch_;
  const auto samples_max = (static_cast<__int128>(saved.epoch) + 1) * steps_per_epoch_ * options_.global_batch;
  if (in_epoch && samples_max <= INT64_MAX && CursorAt(StepAt(saved)) == saved) return StepAt(saved);
  return WithHint(FailedPrecondition("resume at epoch ", saved.epoch, ", step ", saved.step_in_epoch, " in it, after ", saved.samples,
                                     " samples: this run never is there (", Policy(), ")"),
                  "resume with the data set, data.batch and data.remainder that the run began with");
}

int64_t Sampler::FirstPosition(Step step, int64_t leaf) const {
  // m B / M without overflow for any B that fits a data set.
  const auto offset = static_cast<int64_t>(static_cast<__int128>(leaf) * options_.global_batch / options_.leaves);
  return step % steps_per_epoch_ * options_.global_batch + offset;
}

const std::vector<int64_t>& Sampler::OrderOf(int64_t epoch, int64_t leaf) {
  const bool independent = options_.kind == SamplerKind::kIndependent;
  Order& order = orders_[independent ? leaf : 0];
  if (order.epoch == epoch) return order.samples;
  order.samples.resize(static_cast<size_t>(options_.dataset_size));
  std::iota(order.samples.begin(), order.samples.end(), 0);
  // Fisher and Yates, in Durstenfeld's form.
  Rng rng(options_.seed, RngPurpose::kShuffle, static_cast<uint64_t>(epoch), static_cast<uint64_t>(independent ? leaf : 0));
  for (size_t left = order.samples.size(); left > 1; --left) std::swap(order.samples[left - 1], order.samples[rng.Below(left)]);
  order.epoch = epoch;
  return order.samples;
}

void Sampler::Indices(Step step, int64_t leaf, std::vector<int64_t>* indices) {
  DTRAIN_CHECK(step >= 0 && leaf >= 0 && leaf < options_.leaves);
  const int64_t size = options_.dataset_size;
  const int64_t begin = FirstPosition(step, leaf), end = FirstPosition(step, leaf + 1);
  indices->clear();
  if (options_.kind == SamplerKind::kIndependent) {
    // The leaf walks through permutations of its own, one after the other, without regard to epochs.
    const int64_t first = step * (end - begin);
    for (int64_t at = first; at < first + end - begin; ++at) indices->push_back(OrderOf(at / size, leaf)[at % size]);
    return;
  }
  const int64_t stop = options_.remainder == Remainder::kPartial ? std::min(end, size) : end;
  if (options_.kind == SamplerKind::kSequential) {
    for (int64_t at = begin; at < stop; ++at) indices->push_back(at % size);
    return;
  }
  const std::vector<int64_t>& order = OrderOf(step / steps_per_epoch_, leaf);
  for (int64_t at = begin; at < stop; ++at) indices->push_back(order[at % size]);
}

std::vector<int64_t> Sampler::Indices(Step step, int64_t leaf) {
  std::vector<int64_t> indices;
  Indices(step, leaf, &indices);
  return indices;
}

std::string Sampler::Policy() const {
  const int64_t size = options_.dataset_size, batch = options_.global_batch, last = size % batch;
  const auto samples = [](int64_t count) { return Cat(WithCommas(count), count == 1 ? " sample" : " samples"); };
  std::string text = Cat(samples(size), ", batches of ", WithCommas(batch), ", ", WithCommas(steps_per_epoch_),
                         steps_per_epoch_ == 1 ? " step" : " steps", " an epoch");
  if (options_.kind == SamplerKind::kIndependent) return text + "; every micro-batch draws from the whole set for itself (independent)";
  if (last == 0) return text + "; every sample once";
  switch (options_.remainder) {
    case Remainder::kPad:
      return text + Cat("; the last batch repeats ", samples(batch - last), " (pad)");
    case Remainder::kDrop:
      return text + Cat("; ", samples(last), " left out, others each epoch (drop)");
    case Remainder::kPartial:
      return text + Cat("; the last batch has ", samples(last), " (partial)");
  }
  DTRAIN_CHECK(false);
}

}  // namespace dtrain

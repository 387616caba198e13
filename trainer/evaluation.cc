#include "trainer/evaluation.h"

#include <cmath>

#include "base/codec.h"

namespace dtrain {
namespace {

constexpr double kUnit = 0x1p-40;
constexpr double kLargest = 0x1p86;

}  // namespace

void ExactSum::Add(double value) {
  if (!std::isfinite(value) || std::abs(value) > kLargest) {
    finite_ = false;
    return;
  }
  units_ += static_cast<__int128>(std::nearbyint(value / kUnit));
}

void ExactSum::Add(const ExactSum& other) {
  units_ += other.units_;
  finite_ = finite_ && other.finite_;
}

double ExactSum::value() const { return finite_ ? static_cast<double>(units_) * kUnit : std::nan(""); }

ExactSum ExactSum::FromWords(int64_t high, uint64_t low, bool finite) {
  ExactSum sum;
  sum.units_ = (static_cast<__int128>(high) << 64) | low;
  sum.finite_ = finite;
  return sum;
}

void EvaluationTotals::Add(const EvaluationTotals& other) {
  loss.Add(other.loss);
  weight.Add(other.weight);
  correct += other.correct;
  samples += other.samples;
}

std::string EvaluationTotals::Encode() const {
  Encoder encoder;
  for (const ExactSum* sum : {&loss, &weight}) {
    encoder.I64(sum->high());
    encoder.U64(sum->low());
    encoder.U8(sum->finite());
  }
  encoder.I64(correct);
  encoder.I64(samples);
  const auto bytes = encoder.bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

StatusOr<EvaluationTotals> EvaluationTotals::Decode(std::string_view bytes) {
  Decoder decoder(std::as_bytes(std::span(bytes)));
  EvaluationTotals totals;
  for (ExactSum* sum : {&totals.loss, &totals.weight}) {
    const int64_t high = decoder.I64();
    const uint64_t low = decoder.U64();
    *sum = ExactSum::FromWords(high, low, decoder.U8() != 0);
  }
  totals.correct = decoder.I64();
  totals.samples = decoder.I64();
  if (!decoder.Done()) return DataLoss("read evaluation counts of a rank: ", bytes.size(), " bytes that are none");
  return totals;
}

Value EvaluationTotals::Metrics(const std::string& prefix, bool has_accuracy) const {
  Value metrics = Value::Map();
  metrics.Set(prefix + "_loss", weight.value() > 0 ? loss.value() / weight.value() : std::nan(""));
  if (has_accuracy) metrics.Set(prefix + "_accuracy", samples > 0 ? static_cast<double>(correct) / static_cast<double>(samples) : 0.0);
  return metrics;
}

bool EarlyStop::Take(const Value& metrics) {
  if (metric.empty()) return false;
  const Value& found = metrics.At(metric);
  if (found.if_double() == nullptr) return false;
  const double now = *found.if_double();
  const bool better = std::isfinite(now) && (!has_best || (larger_is_better ? now > best : now < best));
  if (better) {
    best = now;
    has_best = true;
    evaluations_without_gain = 0;
    return false;
  }
  return ++evaluations_without_gain >= patience;
}

Value EarlyStop::Save() const {
  Value saved = Value::Map();
  if (has_best) saved.Set("best", best);
  saved.Set("evaluations_without_gain", evaluations_without_gain);
  return saved;
}

void EarlyStop::Restore(const Value& saved) {
  has_best = saved.At("best").if_double() != nullptr || saved.At("best").if_int() != nullptr;
  best = has_best ? saved.Double("best", 0) : 0;
  evaluations_without_gain = saved.At("evaluations_without_gain").if_int() != nullptr ? saved.Int("evaluations_without_gain", 0) : 0;
}

}  // namespace dtrain

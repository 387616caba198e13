// One shard that is told messages one by one, and what it did and said.
#pragma once
#include <gtest/gtest.h>

#include "tests/paramserver/small_job.h"

namespace dtrain::ps {

inline constexpr TimePoint kStart = TimePoint(std::chrono::hours(1));

// A shard that has its table and values, in view 1 with workers 0..workers-1 of incarnation 10 + worker.
class OneShard {
 public:
  explicit OneShard(ShardOptions options, int tensors = 3, int workers = 4, const std::vector<Decision>& decisions = {})
      : table_(SmallTable(tensors, 1)), layout_(table_.layout()), options_(std::move(options)), shard_(Checked(options_), decisions) {
    OpenViewOf(1, workers);
    Say(0, Register{table_});
    const auto initial = InitialParameters(layout_);
    for (const Chunk& chunk : PlanSharding(table_, layout_).chunks) Say(0, Initial{chunk.range.begin}, Part(initial, chunk));
    EXPECT_TRUE(shard_.ready());
  }
  static ShardOptions Checked(const ShardOptions& options) {
    EXPECT_TRUE(CheckShardOptions(options).ok()) << CheckShardOptions(options).message();
    return options;
  }
  void OpenViewOf(int64_t view, int workers) {
    OpenView open;
    for (int w = 0; w < workers; ++w) open.members.push_back({w, static_cast<uint64_t>(10 + w)});
    view_ = view;
    Note(shard_.Receive(kNoWorker, {{options_.job, view, kNoWorker, 0, 0}, open, {}}, now_));
  }
  static std::span<const float> Part(const std::vector<float>& flat, const Chunk& chunk) {
    return std::span(flat).subspan(static_cast<size_t>(chunk.range.begin), static_cast<size_t>(chunk.range.size()));
  }
  // What the shard does with `body`, said by `worker`.
  const Effects& Say(int32_t worker, Body body, std::span<const float> elements = {}) {
    return Note(shard_.Receive(worker, {Sender(worker), std::move(body), elements}, now_));
  }
  ps::Sender Sender(int32_t worker) const { return {options_.job, view_, worker, static_cast<uint64_t>(10 + worker), table_.version}; }
  const Effects& PushChunk(int32_t worker, Step step, const SubTree& unit, int chunk, const std::vector<float>& gradient,
                           int64_t read = -1) {
    return Say(worker, Push{{0, step, unit}, shard_.sharding().chunks[chunk].range.begin, read < 0 ? step : read},
               Part(gradient, shard_.sharding().chunks[chunk]));
  }
  // The whole gradient of `unit`, computed on what the shard has now.
  void PushUnit(int32_t worker, Step step, const SubTree& unit, bool finite = true) {
    const auto gradient = UnitGradient(layout_, Parameters(), step, unit);
    for (int c = 0; c < static_cast<int>(shard_.sharding().chunks.size()); ++c) PushChunk(worker, step, unit, c, gradient);
    Say(worker, Finish{step, unit, UnitWeight(step, unit), 1, finite, true});
  }
  std::vector<float> Parameters() const {
    std::vector<float> flat;
    for (int c = 0; c < static_cast<int>(shard_.sharding().chunks.size()); ++c) {
      const auto part = shard_.ChunkParameters(c);
      flat.insert(flat.end(), part.begin(), part.end());
    }
    return flat;
  }
  const Effects& Note(Effects effects) {
    last_ = std::move(effects);
    for (const Outgoing& message : last_.messages) {
      if (hold_pins_ && message.pin != 0) pins_.push_back(message.pin);
      if (!hold_pins_ && message.pin != 0) shard_.Release(message.pin, now_);
    }
    return last_;
  }
  // The last answer of kind T to anybody.
  template <typename T>
  const T* Last() const {
    for (auto message = last_.messages.rbegin(); message != last_.messages.rend(); ++message) {
      if (const auto* body = std::get_if<T>(&message->message.body)) return body;
    }
    return nullptr;
  }
  template <typename T>
  int Count() const {
    int count = 0;
    for (const Outgoing& message : last_.messages) count += std::holds_alternative<T>(message.message.body);
    return count;
  }

  Table table_;
  FlatLayout layout_;
  ShardOptions options_;
  Shard shard_;
  TimePoint now_ = kStart;
  int64_t view_ = 0;
  Effects last_;
  bool hold_pins_ = false;
  std::vector<Pin> pins_;
};

inline ShardOptions Sync(int64_t leaves) {
  return {.job = 5, .leaves = leaves, .optimizer = {.momentum = 0.9}, .learning_rate = [](Step step) {
            return 0.1 / static_cast<double>(1 + step);
          }};
}

}  // namespace dtrain::ps

// All ranks of a job in one thread, on a virtual clock: each is a Session that goes through the same list of calls, as
// LinkCommunicator would drive it. Every result is compared with the serial one when it is there.
#pragma once
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "allreduce/binomial.h"
#include "allreduce/direct.h"
#include "allreduce/doubling.h"
#include "allreduce/ring.h"
#include "allreduce/session.h"
#include "base/check.h"
#include "tests/allreduce/serial_sums.h"
#include "tests/sim/message_network.h"

namespace dtrain {

enum class SimCall { kBarrier, kBroadcast, kAllGather, kAllToAll, kReduceScatter, kRing, kTree };

// One call of the list; every rank makes the same.
struct SimStep {
  SimCall call = SimCall::kBarrier;
  DType dtype = DType::kF32;
  int64_t count = 0;  // elements, or bytes
  int root = 0;
  uint64_t seed = 0;  // of the numbers
};

// What a rank brings to a call, where the result comes, and what must come.
class SimData {
 public:
  SimData(const SimStep& step, int rank, int ranks) : step_(step), rank_(rank), ranks_(ranks) {
    switch (step.call) {
      case SimCall::kBarrier:
        break;
      case SimCall::kBroadcast:
        data_ = BytesOf(rank, static_cast<int>(step.seed % 100), static_cast<size_t>(step.count));
        expected_ = BytesOf(step.root, static_cast<int>(step.seed % 100), static_cast<size_t>(step.count));
        break;
      case SimCall::kAllGather:
      case SimCall::kAllToAll:
        for (int other = 0; other < ranks; ++other) {
          to_.push_back(BytesOf(rank, step.call == SimCall::kAllToAll ? other : 0, SizeOf(rank, other)));
          from_.emplace_back(SizeOf(other, rank));
        }
        break;
      default:
        ForType([&](auto type) { Sums<decltype(type)>(); });
    }
  }

  std::unique_ptr<Collective> Make(const Group& group, const ChunkOptions& chunks) {
    const Elements data(step_.dtype, data_);
    switch (step_.call) {
      case SimCall::kBarrier:
        return std::make_unique<Doubling>(group);
      case SimCall::kBroadcast:
        return std::make_unique<BinomialBroadcast>(group, std::span(data_), step_.root, chunks);
      case SimCall::kAllGather:
      case SimCall::kAllToAll:
        return std::make_unique<DirectExchange>(group, step_.call == SimCall::kAllToAll ? Call::kAllToAll : Call::kAllGather,
                                                std::vector<std::span<const std::byte>>(to_.begin(), to_.end()),
                                                std::vector<std::span<std::byte>>(from_.begin(), from_.end()), chunks);
      case SimCall::kReduceScatter:
        return std::make_unique<RingReduce>(group, data, Elements(step_.dtype, slice_), chunks);
      case SimCall::kRing:
        return std::make_unique<RingReduce>(group, data, chunks);
      case SimCall::kTree:
        return std::make_unique<Doubling>(group, data, chunks);
    }
    return nullptr;
  }

  bool Right() const {
    if (step_.call == SimCall::kAllGather || step_.call == SimCall::kAllToAll) {
      for (int other = 0; other < ranks_; ++other) {
        if (from_[static_cast<size_t>(other)] != BytesOf(other, step_.call == SimCall::kAllToAll ? rank_ : 0, SizeOf(other, rank_)))
          return false;
      }
      return true;
    }
    return (step_.call == SimCall::kReduceScatter ? slice_ : data_) == expected_;
  }

 private:
  size_t SizeOf(int from, int to) const {
    if (step_.call == SimCall::kAllGather) return static_cast<size_t>(step_.count * (from % 3 + 1) / 2);
    return static_cast<size_t>(step_.count) * static_cast<size_t>((from * 5 + to * 3) % 4) / 2 + static_cast<size_t>((from + to) % 2);
  }
  template <typename Body>
  void ForType(Body body) {
    if (step_.dtype == DType::kF32) return body(float{});
    if (step_.dtype == DType::kF64) return body(double{});
    if (step_.dtype == DType::kBF16) return body(Bf16{});
    return body(int64_t{});
  }
  template <typename T>
  static std::vector<std::byte> AsBytes(std::span<const T> numbers) {
    const auto bytes = std::as_bytes(numbers);
    return {bytes.begin(), bytes.end()};
  }
  template <typename T>
  void Sums() {
    std::vector<std::vector<T>> inputs;
    for (int rank = 0; rank < ranks_; ++rank) inputs.push_back(NumbersOf<T>(rank, step_.count, step_.seed));
    data_ = AsBytes<T>(inputs[static_cast<size_t>(rank_)]);
    const auto sums = SerialSum(inputs, step_.call == SimCall::kTree ? SumOrder::kDoubling : SumOrder::kRing);
    const ElementRange slice = SliceOf(step_.count, rank_, ranks_);
    if (step_.call == SimCall::kReduceScatter) {
      slice_.resize(static_cast<size_t>(slice.size()) * sizeof(T));
      expected_ = AsBytes<T>(std::span<const T>(sums).subspan(static_cast<size_t>(slice.begin), static_cast<size_t>(slice.size())));
    } else {
      expected_ = AsBytes<T>(sums);
    }
  }

  const SimStep step_;
  const int rank_, ranks_;
  std::vector<std::byte> data_, slice_, expected_;
  std::vector<std::vector<std::byte>> to_, from_;
};

struct SimOptions {
  int ranks = 2;
  std::vector<SimStep> steps;
  ChunkOptions chunks;
  Duration delay_max = std::chrono::milliseconds(2);
  bool exact_delays = false;
  Duration deadline = std::chrono::milliseconds(500);  // of each call
  Duration pause_max = std::chrono::milliseconds(5);   // between two calls of a rank
  uint64_t seed = 0;
};

class CollectiveSim {
 public:
  static constexpr int64_t kView = 5;

  struct Rank {
    std::unique_ptr<Session> session;
    std::vector<std::deque<std::vector<std::byte>>> inbox;  // by sender, what waits in front of the session
    std::vector<bool> ended;                                // by sender: nothing more comes after the inbox
    size_t step = 0;                                        // of the list
    std::unique_ptr<SimData> data;
    bool in_call = false, dead = false, frozen = false;
    TimePoint call_deadline, finished;
    Status status;
    size_t results = 0;  // calls that ended well
    std::string wrong;   // what result was not the serial one
    int64_t messages = 0, payload_bytes = 0;
  };

  explicit CollectiveSim(const SimOptions& options)
      : options_(options),
        network_(options.seed, options.delay_max, options.exact_delays),
        draws_(options.seed, RngPurpose::kSynthetic, 1) {
    for (int rank = 0; rank < options.ranks; ++rank) {
      Rank& mine = ranks_.emplace_back();
      mine.session = std::make_unique<Session>(GroupOf(rank));
      mine.inbox.resize(static_cast<size_t>(options.ranks));
      mine.ended.resize(static_cast<size_t>(options.ranks));
      network_.SetTimer(rank, Pause(), kStart);
    }
  }

  // Sees, and may change, each message on its way; false takes it out.
  std::function<bool(int from, int to, std::vector<std::byte>& message)> on_message = [](int, int, auto&) { return true; };

  // What a rank calls instead of what stands in the list.
  std::map<std::pair<int, size_t>, SimStep> other_steps;

  // Until all is quiet. False if it never is.
  bool Run() {
    for (int64_t events = 0; events < 1'000'000; ++events) {
      auto event = network_.Next();
      if (!event.has_value()) return true;
      Handle(*event);
    }
    return false;
  }

  // The rank ends now; its peers see the ends of its links.
  void Kill(int rank) {
    Rank& mine = ranks_[static_cast<size_t>(rank)];
    if (std::exchange(mine.dead, true)) return;
    for (int other = 0; other < options_.ranks; ++other) {
      if (other != rank) network_.End(rank, other);
    }
  }
  // It stops, and nobody is told.
  void Freeze(int rank) { ranks_[static_cast<size_t>(rank)].frozen = true; }
  MessageNetwork& network() { return network_; }
  const std::vector<Rank>& ranks() const { return ranks_; }
  Group GroupOf(int rank) const { return {.job = 77, .view = kView, .exchange = 2, .rank = rank, .size = options_.ranks}; }

 private:
  static constexpr int64_t kStart = -1;  // of a timer; else the call whose deadline it is

  Duration Pause() { return options_.pause_max * static_cast<int64_t>(draws_.Below(1000)) / 1000; }

  void Handle(MessageNetwork::Event& event) {
    using What = MessageNetwork::What;
    const int rank = event.what == What::kSent ? event.from : event.to;
    Rank& mine = ranks_[static_cast<size_t>(rank)];
    if (mine.dead || mine.frozen || !mine.status.ok()) return;
    switch (event.what) {
      case What::kMessage:
        mine.inbox[static_cast<size_t>(event.from)].push_back(std::move(event.message));
        break;
      case What::kGone:
        mine.ended[static_cast<size_t>(event.from)] = true;
        break;
      case What::kSent:
        mine.status = mine.session->Sent(event.to);
        break;
      case What::kTimer:
        if (event.number == kStart) {
          Start(rank);
        } else if (mine.in_call && static_cast<size_t>(event.number) == mine.step) {
          mine.status = mine.session->CheckTime(network_.now());
        }
    }
    GoOn(rank);
  }

  void Start(int rank) {
    Rank& mine = ranks_[static_cast<size_t>(rank)];
    const auto other = other_steps.find({rank, mine.step});
    const SimStep& step = other == other_steps.end() ? options_.steps[mine.step] : other->second;
    mine.data = std::make_unique<SimData>(step, rank, options_.ranks);
    mine.in_call = true;
    mine.call_deadline = network_.now() + options_.deadline;
    network_.SetTimer(rank, options_.deadline, static_cast<int64_t>(mine.step));
    mine.status = mine.session->Begin(mine.data->Make(GroupOf(rank), options_.chunks), mine.call_deadline);
  }

  void GoOn(int rank) {
    Rank& mine = ranks_[static_cast<size_t>(rank)];
    // As the shell does it: nothing is read outside of a call.
    for (int from = 0; mine.in_call && from < options_.ranks; ++from) {
      auto& inbox = mine.inbox[static_cast<size_t>(from)];
      while (mine.status.ok() && !inbox.empty() && mine.session->Takes(from)) {
        mine.status = mine.session->Receive(from, std::move(inbox.front()));
        inbox.pop_front();
      }
      if (mine.status.ok() && inbox.empty() && mine.ended[static_cast<size_t>(from)] && mine.session->Takes(from)) {
        mine.ended[static_cast<size_t>(from)] = false;
        mine.status = mine.session->Gone(from, Unavailable("the peer closed the connection"));
      }
    }
    for (Outgoing& out : mine.session->TakeOutgoing()) {
      ++mine.messages;
      mine.payload_bytes += static_cast<int64_t>(out.message.size() - kFrameHeaderBytes);
      const bool goes = on_message(rank, out.to, out.message);
      if (mine.dead || mine.frozen) return;  // in the midst of its messages
      network_.Leave(rank, out.to);
      if (goes) network_.Send(rank, out.to, std::move(out.message));
    }
    if (!mine.status.ok()) return GiveUp(rank);
    if (!mine.in_call || !mine.session->done()) return;
    mine.in_call = false;
    mine.finished = network_.now();
    if (!mine.data->Right()) mine.wrong += Cat("rank ", rank, ", call ", mine.step, "; ");
    ++mine.results;
    if (++mine.step < options_.steps.size()) {
      network_.SetTimer(rank, Pause(), kStart);
    } else {
      Kill(rank);  // through: it leaves
    }
  }

  void GiveUp(int rank) {
    Rank& mine = ranks_[static_cast<size_t>(rank)];
    mine.finished = network_.now();
    for (int other = 0; other < options_.ranks; ++other) {
      if (other != rank) network_.Send(rank, other, mine.session->AbortMessage(mine.status));
    }
    Kill(rank);
  }

  const SimOptions options_;
  MessageNetwork network_;
  Rng draws_;
  std::vector<Rank> ranks_;
};

}  // namespace dtrain

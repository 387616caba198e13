// Messages between nodes on a virtual clock, all in one thread: each takes a while that is drawn from the seed, those of one
// link keep their order, those of different links do not. Links can be cut in one direction, nodes can die.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <queue>
#include <set>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/rng.h"

namespace dtrain {

class MessageNetwork {
 public:
  enum class What {
    kMessage,  // `message` from `from` arrives at `to`
    kSent,     // to `from`: one message to `to` has left
    kGone,     // to `to`: nothing more comes from `from`
    kTimer,    // to `to`: asked for by SetTimer; `number` is what was given there
  };
  struct Event {
    TimePoint at;
    uint64_t order;  // of two at the same time
    What what;
    int from, to;
    int64_t number;
    std::vector<std::byte> message;
  };

  // Every message takes up to `delay_max`; exactly that long if `exact`.
  MessageNetwork(uint64_t seed, Duration delay_max, bool exact = false)
      : draws_(seed, RngPurpose::kSynthetic, 0x6e6574), delay_max_(delay_max), exact_(exact) {}

  TimePoint now() const { return now_; }

  // To the sender: its message has left.
  void Leave(int from, int to) {
    Put({After(last_left_[{from, to}], exact_ ? Duration(0) : Draw(delay_max_ / 4)), 0, What::kSent, from, to, 0, {}});
  }
  // A message on its way.
  void Send(int from, int to, std::vector<std::byte> message) {
    if (cut_.contains({from, to})) return;
    Put({After(last_[{from, to}], exact_ ? delay_max_ : Draw(delay_max_)), 0, What::kMessage, from, to, 0, std::move(message)});
  }
  // What is under way on a link arrives, then its end.
  void End(int from, int to) {
    if (!cut_.contains({from, to})) Put({After(last_[{from, to}], Draw(delay_max_)), 0, What::kGone, from, to, 0, {}});
  }
  // What `from` sends to `to` from now on is lost, and nobody is told.
  void Cut(int from, int to) { cut_.insert({from, to}); }
  void SetTimer(int node, Duration after, int64_t number) { Put({now_ + after, 0, What::kTimer, node, node, number, {}}); }

  // The next thing that happens; time goes on to it. Nothing when all is quiet.
  std::optional<Event> Next() {
    if (events_.empty()) return std::nullopt;
    Event event = std::move(const_cast<Event&>(events_.top()));  // popped at once
    events_.pop();
    now_ = event.at;
    return event;
  }

 private:
  struct Later {
    bool operator()(const Event& a, const Event& b) const { return std::pair(a.at, a.order) > std::pair(b.at, b.order); }
  };
  Duration Draw(Duration max) { return max * static_cast<int64_t>(draws_.Below(1000)) / 1000; }
  // Not before what was sent earlier on the same link.
  TimePoint After(TimePoint& last, Duration delay) { return last = std::max(last, now_ + delay); }
  void Put(Event event) {
    event.order = order_++;
    events_.push(std::move(event));
  }

  Rng draws_;
  const Duration delay_max_;
  const bool exact_;
  TimePoint now_{std::chrono::hours(1)};
  uint64_t order_ = 0;
  std::priority_queue<Event, std::vector<Event>, Later> events_;
  std::map<std::pair<int, int>, TimePoint> last_, last_left_;
  std::set<std::pair<int, int>> cut_;
};

}  // namespace dtrain

// How a rank's training talks to its job: what the launcher asks for, what the other ranks say, what is reported.
// Production goes over the control plane (cluster/member.h), a test or a single process does without one.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "base/transport.h"
#include "base/value.h"
#include "base/view.h"
#include "cluster/member.h"

namespace dtrain {

class JobChannel {
 public:
  virtual ~JobChannel() = default;
  virtual int rank() const = 0;
  virtual int world_size() const = 0;
  // `mine` of every rank, in order of ranks. All ranks call with the same tags in the same order.
  virtual StatusOr<std::vector<std::string>> AllGather(std::string_view tag, std::string_view mine, Deadline deadline) = 0;
  virtual void Advance(Step step) = 0;          // this rank is at `step`
  virtual void SetWaiting(bool waiting) = 0;    // this rank waits for others, or goes on; tells a slow rank from those
  virtual Status Health() const = 0;            // OK, or why the job failed; never blocks
  virtual void Report(const Value& event) = 0;  // for people and records; one way
  virtual Requests requests() const = 0;        // what the user asked for since the start
  // A link to every other rank, by rank (the own entry is null), for what travels between hosts. Collective, once.
  // `interface` as in cluster/local_address.h; empty: the address by which the coordinator is reached.
  virtual StatusOr<std::vector<std::unique_ptr<Link>>> ConnectPeers(const std::string& interface, Deadline deadline) = 0;
};

// A job of one process: nobody asks, nobody listens.
class SoloChannel : public JobChannel {
 public:
  int rank() const override { return 0; }
  int world_size() const override { return 1; }
  StatusOr<std::vector<std::string>> AllGather(std::string_view, std::string_view mine, Deadline) override {
    return std::vector<std::string>{std::string(mine)};
  }
  void Advance(Step) override {}
  void SetWaiting(bool) override {}
  Status Health() const override { return OkStatus(); }
  void Report(const Value&) override {}
  Requests requests() const override { return {}; }
  StatusOr<std::vector<std::unique_ptr<Link>>> ConnectPeers(const std::string&, Deadline) override {
    return std::vector<std::unique_ptr<Link>>(1);
  }
};

// `member` outlives the channel.
std::unique_ptr<JobChannel> MakeMemberChannel(Member& member);

}  // namespace dtrain

#include "cluster/mesh_rules.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/check.h"
#include "base/codec.h"

namespace dtrain {
namespace {

constexpr size_t kWhyBytesMax = 512;
constexpr size_t kWhysMax = 64;  // of one report; more ranks are only numbered
constexpr size_t kNamedRanksMax = 16;

std::string RankNames(const std::vector<int>& ranks) {
  std::vector<std::string> names;
  for (const int rank : ranks) {
    if (names.size() == kNamedRanksMax) {
      names.push_back(Cat(ranks.size() - kNamedRanksMax, " more"));
      break;
    }
    names.push_back(Cat(rank));
  }
  return Cat(ranks.size() == 1 ? "rank " : "ranks ", Join(names, ", "));
}

}  // namespace

MeshRules::MeshRules(int rank, int world_size, int64_t view, int lanes)
    : rank_(rank),
      world_size_(world_size),
      view_(view),
      lanes_(lanes),
      lanes_of_(static_cast<size_t>(world_size), std::vector<Lane>(static_cast<size_t>(lanes))),
      why_(static_cast<size_t>(world_size)),
      missing_((world_size - 1) * lanes) {
  DTRAIN_CHECK(0 <= rank && rank < world_size && world_size <= kRanksMax && 1 <= lanes && lanes <= kLanesMax);
}

MeshHello MeshRules::HelloTo(int peer, int lane, int64_t attempt) const {
  return {.from = rank_, .to = peer, .world_size = world_size_, .view = view_, .lane = lane, .attempt = attempt};
}

Status MeshRules::Admit(const MeshHello& hello) {
  if (hello.world_size != world_size_) {
    return FailedPrecondition("rank ", hello.from, " believes that the job has ", hello.world_size, " ranks, rank ", rank_, " has ",
                              world_size_);
  }
  if (hello.view != view_) return FailedPrecondition("rank ", hello.from, " is in view ", hello.view, ", rank ", rank_, " in view ", view_);
  if (hello.to != rank_) return FailedPrecondition("this is rank ", rank_, ", rank ", hello.from, " looks for rank ", hello.to);
  if (hello.from >= rank_)
    return FailedPrecondition("rank ", hello.from, " connects to rank ", rank_, ", expected the lower to the higher");
  if (hello.lane >= lanes_) {
    return FailedPrecondition("rank ", hello.from, " brings link number ", hello.lane, ", rank ", rank_, " expects ", lanes_,
                              " links from every rank");
  }
  Lane& it = lane(hello.from, hello.lane);
  if (hello.attempt <= it.admitted) {
    return AlreadyExists("rank ", hello.from, " brought link number ", hello.lane, " already (attempt ", it.admitted, ", this is attempt ",
                         hello.attempt, ")");
  }
  it.admitted = hello.attempt;
  return OkStatus();
}

bool MeshRules::Place(const MeshHello& hello) {
  Lane& it = lane(hello.from, hello.lane);
  if (it.admitted != hello.attempt) return false;
  Arrived(it);
  return true;
}

void MeshRules::Connected(int peer, int number) { Arrived(lane(peer, number)); }

void MeshRules::Arrived(Lane& it) {
  if (!it.there) --missing_;
  it.there = true;
}

void MeshRules::Note(int peer, std::string_view why) { why_[static_cast<size_t>(peer)] = why.substr(0, kWhyBytesMax); }

// {rank, why} of each that is missing.
std::string MeshRules::Report() const {
  if (complete()) return "";
  Encoder report;
  size_t count = 0;
  for (int peer = 0; peer < world_size_; ++peer) {
    const auto& lanes = lanes_of_[static_cast<size_t>(peer)];
    if (peer == rank_ || std::all_of(lanes.begin(), lanes.end(), [](const Lane& lane) { return lane.there; })) continue;
    if (report.bytes().size() + kWhyBytesMax + 32 > kGatherPartBytesMax) break;
    const std::string& why = why_[static_cast<size_t>(peer)];
    report.I64(peer);
    report.String(++count > kWhysMax ? "" : why);
  }
  const auto bytes = report.bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Status MeshVerdict(std::span<const std::string> reports) {
  const auto world_size = static_cast<int>(reports.size());
  std::vector<std::vector<int>> lacked_by(reports.size());
  std::map<std::pair<int, int>, std::string> why;  // by who lacks and who is lacked
  for (int rank = 0; rank < world_size; ++rank) {
    Decoder report(std::as_bytes(std::span(reports[static_cast<size_t>(rank)])));
    while (!report.Done()) {
      const int64_t peer = report.I64();
      const std::string text = report.String();
      if (!report.ok() || peer < 0 || peer >= world_size || peer == rank || text.size() > kWhyBytesMax) {
        return DataLoss("connect the ranks: the report of rank ", rank, " is damaged");
      }
      lacked_by[static_cast<size_t>(peer)].push_back(rank);
      if (!text.empty()) why[{rank, static_cast<int>(peer)}] = text;
    }
  }
  // A link has two ends and both may lack it. Who is lacked by most is named, until every missing link is explained.
  std::vector<std::string> named;
  for (;;) {
    const auto worst =
        std::max_element(lacked_by.begin(), lacked_by.end(), [](const auto& a, const auto& b) { return a.size() < b.size(); });
    if (worst == lacked_by.end() || worst->empty()) break;
    const auto peer = static_cast<int>(worst - lacked_by.begin());
    // Who connects knows more than who waits to be connected to.
    std::string reason = "it never connected";
    for (const int rank : *worst) {
      const auto forth = why.find({rank, peer}), back = why.find({peer, rank});
      if (forth == why.end() && back == why.end()) continue;
      reason = forth != why.end() ? forth->second : back->second;
      break;
    }
    if (named.size() < kNamedRanksMax) {
      named.push_back(Cat("rank ", peer, " and ", RankNames(*worst), " did not reach each other (", reason, ")"));
    }
    for (const int rank : *worst) std::erase(lacked_by[static_cast<size_t>(rank)], peer);
    worst->clear();
  }
  if (named.empty()) return OkStatus();
  return WithHint(Unavailable("connect the ranks: ", Join(named, "; ")),
                  "strategy.interface chooses the network interface on which a rank listens; a firewall must let ranks reach each other");
}

}  // namespace dtrain

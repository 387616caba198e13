// Which links a rank's mesh still lacks, and who may bring one: the rules of cluster/mesh.h as a pure state machine,
// without threads, sockets or clock. Lower ranks connect to higher ones, `lanes` links each.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "cluster/messages.h"

namespace dtrain {

class MeshRules {
 public:
  MeshRules(int rank, int world_size, int64_t view, int lanes);

  // What this rank says when it connects. `peer` is higher than the own rank.
  MeshHello HelloTo(int peer, int lane, int64_t attempt) const;

  // A peer with the right token brings a link. OK: welcome it, then Place it. Otherwise the reason for a Refused: it is
  // meant for another rank or view, the world size differs, or a newer attempt at the same link came before.
  Status Admit(const MeshHello& hello);
  // The welcome went out. True: keep this link, in place of an older attempt's. False: a newer attempt was admitted.
  bool Place(const MeshHello& hello);
  void Connected(int peer, int lane);  // this rank's own connect succeeded

  // Says why a link to `peer` is not there yet; the newest reason is kept for the report.
  void Note(int peer, std::string_view why);

  bool complete() const { return missing_ == 0; }
  // For all other ranks: which ranks this one lacks, and why. Empty bytes: none.
  std::string Report() const;

 private:
  struct Lane {
    int64_t admitted = 0;  // the newest attempt
    bool there = false;
  };
  Lane& lane(int peer, int lane) { return lanes_of_[static_cast<size_t>(peer)][static_cast<size_t>(lane)]; }
  void Arrived(Lane& lane);

  const int rank_, world_size_;
  const int64_t view_;
  const int lanes_;
  std::vector<std::vector<Lane>> lanes_of_;  // by peer
  std::vector<std::string> why_;             // by peer
  int missing_;                              // links
};

// What the reports of all ranks (by rank) mean together: OK if nobody lacks anybody. Otherwise the same kUnavailable on
// every rank, which names who was not reached, by whom and why. kDataLoss for bytes that are no report.
Status MeshVerdict(std::span<const std::string> reports);

}  // namespace dtrain

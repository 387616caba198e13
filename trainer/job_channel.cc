#include "trainer/job_channel.h"

#include "base/log.h"
#include "base/wire.h"
#include "cluster/local_address.h"
#include "cluster/mesh.h"
#include "cluster/tcp_transport.h"

namespace dtrain {
namespace {

class MemberChannel final : public JobChannel {
 public:
  explicit MemberChannel(Member& member) : member_(member) {}
  int rank() const override { return member_.rank(); }
  int world_size() const override { return member_.world_size(); }
  StatusOr<std::vector<std::string>> AllGather(std::string_view tag, std::string_view mine, Deadline deadline) override {
    member_.SetWaiting(true);
    auto all = member_.AllGather(tag, mine, deadline);
    member_.SetWaiting(false);
    return all;
  }
  void Advance(Step step) override { member_.Advance(step); }
  void SetWaiting(bool waiting) override { member_.SetWaiting(waiting); }
  Status Health() const override { return member_.Health(); }
  void Report(const Value& event) override {
    if (const Status status = member_.Report(event.ToJson()); !status.ok()) Log(LogLevel::kDebug, Message(status));
  }
  Requests requests() const override { return member_.requests(); }
  StatusOr<std::vector<std::unique_ptr<Link>>> ConnectPeers(const std::string& interface, Deadline deadline) override {
    MeshOptions options{.rank = rank(), .world_size = world_size(), .token = member_.job().token};
    if (interface.empty()) {
      ASSIGN_OR_RETURN(options.host, AddressTowards(member_.job().coordinator));
    } else {
      ASSIGN_OR_RETURN(options.host, AddressOf(interface));
    }
    options.all_gather = [this](std::string_view tag, std::string_view mine, Deadline by) { return AllGather(tag, mine, by); };
    options.health = [this] { return Health(); };
    ASSIGN_OR_RETURN(Mesh mesh, ConnectMesh(transport_, options, deadline));
    return std::move(mesh.front());
  }

 private:
  // Strangers say little before they are known.
  TcpTransport transport_{{.message_bytes_max = kFramePayloadBytesMax + (1 << 20), .first_message_bytes_max = 4096}};
  Member& member_;
};

}  // namespace

std::unique_ptr<JobChannel> MakeMemberChannel(Member& member) { return std::make_unique<MemberChannel>(member); }

}  // namespace dtrain

#include "trainer/job_channel.h"

#include "base/log.h"

namespace dtrain {
namespace {

class MemberChannel final : public JobChannel {
 public:
  explicit MemberChannel(Member& member) : member_(member) {}
  int rank() const override { return member_.rank(); }
  int world_size() const override { return member_.world_size(); }
  StatusOr<std::vector<std::string>> AllGather(std::string_view tag, std::string_view mine, Deadline deadline) override {
    return member_.AllGather(tag, mine, deadline);
  }
  void Advance(Step step) override { member_.Advance(step); }
  Status Health() const override { return member_.Health(); }
  void Report(const Value& event) override {
    if (const Status status = member_.Report(event.ToJson()); !status.ok()) Log(LogLevel::kDebug, Message(status));
  }
  Requests requests() const override { return member_.requests(); }

 private:
  Member& member_;
};

}  // namespace

std::unique_ptr<JobChannel> MakeMemberChannel(Member& member) { return std::make_unique<MemberChannel>(member); }

}  // namespace dtrain

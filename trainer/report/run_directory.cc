#include "trainer/report/run_directory.h"

#include "trainer/report/fields.h"
#include "trainer/report/result.h"
#include "trainer/report/whole_file.h"

namespace dtrain {

RunDirectory::RunDirectory(std::string path) : path_(std::move(path)) {
  while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
}

std::string RunDirectory::name() const { return path_.substr(path_.rfind('/') + 1); }

std::string RunDirectory::In(std::string_view name) const { return Cat(path_, path_ == "/" ? "" : "/", name); }

std::string RunDirectory::RankLog(int rank) const { return Cat(logs(), "/rank-", rank, ".log"); }

Status RunDirectory::Create(Storage& storage, std::string_view config_text, std::string_view resolved_text,
                            const Value& environment) const {
  RETURN_IF_ERROR(storage.CreateDirectories(logs()));
  RETURN_IF_ERROR(ReplaceFile(storage, config(), config_text));
  RETURN_IF_ERROR(ReplaceFile(storage, resolved(), resolved_text));
  return ReplaceFile(storage, env(), environment.ToJson() + "\n");
}

StatusOr<bool> IsFinished(const Storage& storage, const RunDirectory& directory) {
  const auto result = ReadResult(storage, directory.result());
  if (absl::IsNotFound(result.status())) return false;
  if (!result.ok()) return result.status();
  return TextAt(*result, "status") == "done";
}

}  // namespace dtrain

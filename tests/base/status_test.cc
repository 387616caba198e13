// Goal: what an error says and the exit code it stands for arrive at the top unchanged. Method: a status taken through
// every function that layers use on its way.
#include "base/status.h"

#include <gtest/gtest.h>

namespace dtrain {
namespace {

TEST(Status, MessageIsPutTogetherFromItsPartsAndTheKindIsKept) {
  const Status status = NotFound("open ", std::string("a.txt"), ": tried ", 3, " times in ", 0.5, " s");
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_EQ(Message(status), "open a.txt: tried 3 times in 0.5 s");
}

TEST(Status, HintStaysAtTheEndWhenLayersSayWhatTheyDid) {
  const Status status = Annotate(WithHint(DataLoss("it is torn"), "take another"), "load a");
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_EQ(Message(status), "load a: it is torn\n  Hint: take another");
}

TEST(Status, ExitCodeTravelsThroughEveryLayer) {
  const Status status = Annotate(WithHint(WithExitCode(Internal("x"), ExitCode::kDiverged), "h"), "train");
  EXPECT_EQ(ExitCodeOf(status, ExitCode::kSetUp), ExitCode::kDiverged);
  EXPECT_EQ(ExitCodeOf(Internal("x"), ExitCode::kSetUp), ExitCode::kSetUp);
  EXPECT_EQ(ExitCodeOf(WithExitCode(status, ExitCode::kStopped), ExitCode::kSetUp), ExitCode::kStopped);  // the last word
  EXPECT_EQ(ExitCodeOf(OkStatus(), ExitCode::kSetUp), ExitCode::kDone);
}

TEST(Status, OkStaysOkWhateverIsSaidAboutIt) {
  EXPECT_TRUE(WithHint(OkStatus(), "h").ok());
  EXPECT_TRUE(Annotate(OkStatus(), "a").ok());
  EXPECT_TRUE(WithExitCode(OkStatus(), ExitCode::kUsage).ok());
  EXPECT_EQ(Message(WithHint(Internal("x"), "")), "x");
}

TEST(Status, ExitCodesAreThosePromised) {
  EXPECT_EQ(static_cast<int>(ExitCode::kDone), 0);
  EXPECT_EQ(static_cast<int>(ExitCode::kUsage), 2);
  EXPECT_EQ(static_cast<int>(ExitCode::kConfiguration), 3);
  EXPECT_EQ(static_cast<int>(ExitCode::kSetUp), 4);
  EXPECT_EQ(static_cast<int>(ExitCode::kRankFailed), 5);
  EXPECT_EQ(static_cast<int>(ExitCode::kDiverged), 6);
  EXPECT_EQ(static_cast<int>(ExitCode::kStopped), 75);
  EXPECT_EQ(static_cast<int>(ExitCode::kInterrupted), 130);
}

StatusOr<int> Half(int number) {
  if (number % 2 != 0) return InvalidArgument(number, " is odd");
  return number / 2;
}

StatusOr<std::string> Quarter(int number) {
  ASSIGN_OR_RETURN(const int half, Half(number));
  RETURN_IF_ERROR(Half(half).status());
  return Cat(half / 2);
}

TEST(Status, MacrosHandOnTheFirstErrorAndElseTheValue) {
  EXPECT_EQ(*Quarter(8), "2");
  EXPECT_EQ(Message(Quarter(7).status()), "7 is odd");
  EXPECT_EQ(Message(Quarter(6).status()), "3 is odd");
}

}  // namespace
}  // namespace dtrain
